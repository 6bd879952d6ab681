"""The studio: a page on this machine where a small network is changed and trained while one watches its gradients.

`problems` says what there is to choose, `session` holds a network and carries out commands,
`script` takes a network of the visitor's own, `server` shows it all to the browser.
"""
