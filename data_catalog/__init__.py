"""What was judged, how, and what came of it: workspaces, their artifacts and their event log."""

from data_catalog._catalog import WHOLE_NIGHT, Catalog
from data_catalog._errors import CatalogError, LeaseHeld, LeaseLost, StorageError, StoreError
from data_catalog._lease import Held, Lease
from data_catalog._notes import Note
from data_catalog._schema import StageEvent
from data_catalog._snapshot import Snapshot
from data_catalog._store import Store, WorkingFolder
from data_catalog._workspace import Workspace, local_folder, url_of
from data_catalog.views import DROPPED, canonical, done, funnel, input_hash_of, items

__all__ = [
    "DROPPED",
    "WHOLE_NIGHT",
    "Catalog",
    "CatalogError",
    "Held",
    "Lease",
    "LeaseHeld",
    "LeaseLost",
    "Note",
    "Snapshot",
    "StageEvent",
    "StorageError",
    "Store",
    "StoreError",
    "WorkingFolder",
    "Workspace",
    "canonical",
    "done",
    "funnel",
    "input_hash_of",
    "items",
    "local_folder",
    "url_of",
]
