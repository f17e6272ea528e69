"""Version of the torch that runs, for what its older releases, or transformers on them, cannot do."""

import torch
from packaging.version import Version

TORCH = Version(Version(torch.__version__).base_version)
