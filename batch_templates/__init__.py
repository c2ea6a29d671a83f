"""The batch scripts that a site administrator edits, one Jinja2 template per scheduler."""
