"""Native code: LLVM IR as text, what the CPU can do, vector mathematics, dense kernels.

Nothing here knows graphs; a schedule describes the work and these modules write the functions.
"""
