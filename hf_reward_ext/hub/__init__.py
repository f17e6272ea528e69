"""Uploads to the Hub: saved folders, rows as datasets, and decoding for `generate(custom_generate="me/repository")`."""

from hf_reward_ext.base.saving.upload import push_folder
from hf_reward_ext.hub.genarm_decoding import GenARMCustomGenerate, generate_guided
from hf_reward_ext.hub.rows import push_rows, save_rows
from hf_reward_ext.hub.sla_decoding import SLACustomGenerate, generate_look_ahead

__all__ = [
    "GenARMCustomGenerate",
    "SLACustomGenerate",
    "generate_guided",
    "generate_look_ahead",
    "push_folder",
    "push_rows",
    "save_rows",
]
