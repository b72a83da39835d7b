"""The files by which other engines sample alike: each as that engine reads it."""

from __future__ import annotations

import json
import shlex

from harness.config.schema import SamplingConfig
from harness.generation.serving import served_files


def test_each_engine_has_a_file_that_it_can_read() -> None:
    files = {file.name: file for file in served_files(SamplingConfig(name="xtc", temperature=0.7, min_p=0.05, xtc_probability=0.5), 512)}
    assert set(files) == {"generation_config.json", "vllm.json", "llamacpp.txt"}
    settings = json.loads(files["generation_config.json"].text)
    assert (settings["do_sample"], settings["temperature"], settings["top_k"], settings["min_p"]) == (True, 0.7, 0, 0.05)
    assert not any(key.startswith("xtc") for key in settings), "generate would keep it and ignore it"
    assert {name: file.served.verdict for name, file in files.items()} == {
        "generation_config.json": "not expressible",
        "vllm.json": "not expressible",
        "llamacpp.txt": "exact",
    }
    words = shlex.split(files["llamacpp.txt"].text)
    assert words[words.index("--samplers") + 1] == "temperature;min_p;xtc"
    assert words[words.index("--xtc-probability") + 1] == "0.5"
