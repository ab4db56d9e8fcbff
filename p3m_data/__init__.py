"""Privacy-preserving portrait matting datasets: blur faces, keep every hair."""

__version__ = "0.1.0"
