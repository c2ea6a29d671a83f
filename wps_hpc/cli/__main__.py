"""``python -m wps_hpc.cli``: the same as the command ``wps-hpc``."""

from wps_hpc.cli.main import main

if __name__ == "__main__":
    main()
