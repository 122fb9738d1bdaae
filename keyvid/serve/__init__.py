"""Clips over HTTP: the line of jobs, the interface and the page of `keyvid-serve`."""
