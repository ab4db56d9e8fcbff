"""`python -m p3m_data.cli`: the command where the script `p3mdata` is not on the path."""

from p3m_data.cli.main import main

if __name__ == "__main__":
    main()
