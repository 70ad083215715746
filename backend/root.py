"""Where the project's own files are: assets, studies, pages."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
