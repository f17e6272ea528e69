"""Base class of the saved models of all methods: model card, saving and upload."""

from pathlib import Path

from transformers import PreTrainedModel

from hf_reward_ext.base.lm.keywords import declared_keywords, refuse_unknown
from hf_reward_ext.base.options import check_choice
from hf_reward_ext.base.saving.card import CARD, CardText, write_model_card
from hf_reward_ext.base.saving.loading import check_loaded, naming_checkpoint, require_config
from hf_reward_ext.base.saving.upload import push_folder, push_model

_HUB = ("revision", "token", "cache_dir", "local_files_only", "subfolder")


class BaseRewardModel(PreTrainedModel):
    """Model that is saved with a model card; a subclass defines the text of the card."""

    def _card(self, folder: Path, path_or_repo: str) -> CardText:
        """Return the card of the model in `folder`, with an example that loads from `path_or_repo`."""
        raise NotImplementedError(f"`{type(self).__name__}` has no card.")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, config=None, **kwargs):
        """
        Load what [`save_pretrained`] wrote, from safetensors alone.

        Args:
            pretrained_model_name_or_path (`str` or `Path`): Folder or name on the Hub.
            config (`PreTrainedConfig`, *optional*): Configuration of the model. Default: the saved one.
            *args, **kwargs: Arguments of [`~transformers.PreTrainedModel.from_pretrained`].

        Raises:
            ValueError: If there is no `config.json`, or weights are missing, unexpected, not finite, or have another
                shape.
        """
        name = pretrained_model_name_or_path
        check_choice("use_safetensors", kwargs.pop("use_safetensors", True), (True,))
        if config is None:
            hub_kwargs = {key: kwargs[key] for key in _HUB if key in kwargs}
            require_config(name, f"a saved `{cls.__name__}`", **hub_kwargs)
        wants_report = kwargs.pop("output_loading_info", False)
        with naming_checkpoint(name, is_plain=config is None and not args and not kwargs):
            model, report = super().from_pretrained(  # pyright: ignore[reportGeneralTypeIssues]
                name, *args, config=config, use_safetensors=True, output_loading_info=True, **kwargs
            )
        check_loaded(name, model, report)
        return (model, report) if wants_report else model

    def save_pretrained(
        self, save_directory: str | Path, push_to_hub: bool = False, processing_class=None, **kwargs
    ) -> None:
        """
        Save the weights as safetensors, `config.json`, and a model card unless there is one.

        Args:
            save_directory (`str` or `Path`): Folder to save to.
            push_to_hub (`bool`, *optional*): Whether to upload the folder, to `repo_id` or a repository with the name
                of the folder.
            processing_class (*optional*): Tokenizer to save with the model.
            **kwargs: Arguments of [`~transformers.PreTrainedModel.save_pretrained`].

        Raises:
            TypeError: For other keywords.
        """
        known = declared_keywords(PreTrainedModel.save_pretrained) | {"repo_id"}
        refuse_unknown(f"{type(self).__name__}.save_pretrained", kwargs, known)
        repo_id = kwargs.pop("repo_id", None)
        super().save_pretrained(save_directory, **kwargs)
        if not kwargs.get("is_main_process", True):
            return
        if processing_class is not None:
            processing_class.save_pretrained(save_directory)
        folder = Path(save_directory)
        if not (folder / CARD).exists():
            write_model_card(folder, self._card(folder, str(save_directory)))
        if push_to_hub:
            push_folder(folder, repo_id or folder.resolve().name, token=kwargs.get("token"))

    def push_to_hub(self, repo_id: str, **kwargs):  # pyright: ignore[reportIncompatibleMethodOverride]
        """
        Upload the files of [`save_pretrained`]; an existing card in the repository is kept.

        Args:
            repo_id (`str`): Repository on the Hub.
            **kwargs: `private`, `token`, `revision`, `create_pr`, `commit_message` as for [`push_folder`]; others for
                [`save_pretrained`], such as `processing_class`.
        """
        return push_model(self, repo_id, **kwargs)


def tokenizer_path(folder: Path, path_or_repo: str, base: str | None) -> str:
    """Return the location of the tokenizer: the model's folder if it is saved there, otherwise the base."""
    return path_or_repo if (folder / "tokenizer_config.json").exists() else base or "the tokenizer of the base"
