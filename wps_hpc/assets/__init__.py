"""Files that are installed with the package for the system around it: the systemd unit."""
