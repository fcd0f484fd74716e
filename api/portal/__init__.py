"""The portal: the service in a browser, as pages that the server renders. What it does, the API does for it."""
