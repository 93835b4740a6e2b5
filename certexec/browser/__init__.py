"""The terminal app in a browser: the door, the app's process, and the server that joins them."""
