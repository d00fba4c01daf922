"""`python -m longpole`, which launchers such as torchrun need."""

from longpole.cli.main import main

if __name__ == "__main__":
    main()
