"""`python -m hf_reward_ext`, the console script."""

import sys

from hf_reward_ext.cli.main import main

sys.exit(main())
