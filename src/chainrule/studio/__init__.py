"""The studio: a page on this machine where a small network is changed and trained while one watches its gradients.

`problems` says what there is to choose, `points` makes data in the plane, `session` holds a network and carries out
commands, `view` and `plane` say what is shown of it, `script` and `own` take a network of the visitor's own, `server`
shows it all to the browser.
"""
