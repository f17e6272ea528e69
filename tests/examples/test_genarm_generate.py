import importlib.util
from pathlib import Path


def test_guided_decoding_runs_on_the_demo_policy(tmp_path, capsys):
    path = Path(__file__).parents[2] / "examples" / "genarm_generate.py"
    spec = importlib.util.spec_from_file_location("genarm_generate", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    plot = tmp_path / "kl.png"
    module.main(["--tiny", "--max-new-tokens", "8", "--plot", str(plot)])
    shown = capsys.readouterr().out
    assert shown.count("nats per token") == 2 and "speculative:" in shown
    assert plot.stat().st_size > 0
