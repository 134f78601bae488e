"""The study: does adapting on mined video make the model better, and which part of it does?"""

from sage_core.study.run import Study
from sage_core.study.settings import StudySettings
from sage_core.study.table import write_tables
from sage_core.study.variants import VARIANTS, Variant

__all__ = ["VARIANTS", "Study", "StudySettings", "Variant", "write_tables"]
