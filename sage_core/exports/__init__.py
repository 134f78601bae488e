"""Shards in forms that others read: camera files without pixels, COLMAP, nerfstudio, WebDataset, Parquet.

``docs/export.md`` says what each form holds and by which conventions.
"""

from sage_core.exports._attribution import ATTRIBUTION
from sage_core.exports._export import FORMS, Export, export

__all__ = ["ATTRIBUTION", "FORMS", "Export", "export"]
