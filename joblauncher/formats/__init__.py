"""The files that the server and the launcher share: names, layouts, readers and writers, all versioned."""
