"""Until its last importer has moved: see backend/evidence/association.py."""

from backend.evidence.association import Association, association

__all__ = ["Association", "association"]
