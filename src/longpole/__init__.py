"""longpole: where each training step goes, with evidence. Importing this never imports torch."""

__version__ = "0.1.0"
