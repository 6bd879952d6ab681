"""The networks of the mission, each runnable as `chainrule train NAME`."""
