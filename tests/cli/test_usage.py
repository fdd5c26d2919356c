"""Errors of form in the project's words, choices in any case, no option half ignored."""

import pytest
from atmviz_cli.app import COMMANDS, leaves, load_command

LEAVES = {words: leaf for name in COMMANDS for words, leaf in leaves(name, load_command(name)).items()}

WRONG = {
    "choice": (["overlay", "--fit", "sqash"], "got --fit sqash, expected crop, squash or whole; did you mean squash?"),
    "choice of an argument": (["benchmark", "ops"], "got WHAT ops, expected op, model or record; did you mean op?"),
    "number": (["train", "--epochs", "x"], "got --epochs x, expected a whole number"),
    "fraction": (["train", "--lr", "fast"], "got --lr fast, expected a number"),
    "range": (["eval", "--crop-pct", "9"], "got --crop-pct 9, expected a number, 0.01 or more, at most 1.0"),
    "empty": (["record", "--limit", ""], "got --limit '', expected a whole number, 1 or more"),
    "option": (["overlay", "--lmit", "3"], "no option --lmit; did you mean --limit?: see atmviz overlay --help"),
    "short option": (["overlay", "-x"], "no option -x: see atmviz overlay --help"),
    "option of no command": (["--jsn"], "no option --jsn: see atmviz --help"),
    "option without its value": (["overlay", "--size"], "--size needs a value"),
    "command": (["overlya"], "no command 'overlya'; did you mean overlay?: see atmviz --help"),
    "command of a group": (["data", "chek"], "no command 'chek'; did you mean check?: see atmviz data --help"),
    "argument too many": (["layers", "a", "b"], "got unexpected extra argument(s) (b)"),
    "argument that is missing": (["data", "info"], "missing NAME, expected ade20k, coco, imagenet"),
    "layer": (["overlay", "--layer", "generatin"], "'generating' or 'all'; did you mean generating?"),
    "last layer": (["overlay", "--layer", "3_lst"], "; did you mean 3_last?"),
    "layer with a hyphen": (["overlay", "--layer", "4-2"], "; did you mean 4_2?"),
    "layer beyond the last": (["overlay", "--layer", "3_19"], "a glob like '3_*', '3_last', 'generating' or 'all'"),
    "variant to time": (["benchmark", "op", "-m", "atmnet_tinny"], "; did you mean atmnet_tiny?"),
    "setting": (["train", "--optimizer", "x", "--head", "upernett"], "; did you mean upernet?"),
}  # fmt: skip


@pytest.mark.parametrize(("args", "says"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_one_line_in_our_words(refuse, args, says):
    result = refuse(2, says, *args)
    assert "Value error" not in result.stderr
    assert "nput should be" not in result.stderr


NEAR = {
    "recipe": (["train", "--recipe", "shape"], "; did you mean shapes?"),
    "variant": (["overlay", "-c", "atmnet-tny"], "; did you mean atmnet_tiny?"),
    "variant of another case": (["layers", "ATMNet_Large"], "; did you mean atmnet_large?"),
    "bundled checkpoint": (["layers", "atmnet_nano.shape"], "; did you mean atmnet_nano.shapes?"),
    "expected variant": (["overlay", "-m", "atmnet_huge"], "no model atmnet_huge: expected one of atmnet_nano"),
    "variant to count": (["complexity", "-m", "atmnet_smal"], "; did you mean atmnet_small?"),
    "head": (["complexity", "-m", "mask_rcn(atmnet_tiny)"], "; did you mean mask_rcnn?"),
    "dataset": (["eval", "--dataset", "imagnet"], "; did you mean imagenet?"),
    "device": (["overlay", "--device", "cdua"], "; did you mean cuda?"),
}
NEAR_FILES = {
    "checkpoint": (["overlay", "-c", "models/ATMNet-t.pt"], "; did you mean models/ATMNet-T.pth?"),
    "recording or folder": (["histogram", "model"], "; did you mean models?"),
    "image": (["overlay", "models/phto.jpg"], "; did you mean models/photo.jpg?"),
    "folder of an image": (["record", "modls/photo.jpg"], "; did you mean models/photo.jpg?"),
    "path to inspect": (["inspect", "models/photo.jpeg"], "; did you mean models/photo.jpg?"),
    "recordings to merge": (["merge", "model", "models", "--out", "all"], "; did you mean models?"),
}


@pytest.mark.parametrize(("args", "says"), NEAR.values(), ids=NEAR)
def test_the_nearest_name_is_suggested(refuse, args, says):
    refuse(2, says, *args)


@pytest.mark.parametrize(("args", "says"), NEAR_FILES.values(), ids=NEAR_FILES)
def test_the_nearest_file_or_folder_is_suggested(refuse, folder, args, says):
    (folder / "models").mkdir()
    for name in ("ATMNet-T.pth", "photo.jpg"):
        (folder / "models" / name).touch()
    refuse(1, says, *args)


def options(words):
    return [parameter for parameter in LEAVES[words].params if parameter.param_type_name == "option"]


@pytest.mark.parametrize("words", LEAVES)
def test_an_option_of_one_value_is_not_half_ignored(run, words):
    for option in options(words):
        twice = [option.opts[0], *(["1"] if not option.is_flag else [])] * 2
        if option.secondary_opts:
            twice[1] = option.secondary_opts[0]
        said = run(*words.split(), *twice, "--help").stderr
        harmless = option.multiple or (option.is_flag and not option.secondary_opts)
        name = max(option.opts, key=len)
        instead = "; atmviz compare takes two" if name == "--checkpoint" else ""
        assert said == ("" if harmless else f"error: got {name} more than once, expected it once{instead}\n")


def test_a_short_and_a_long_name_are_one_option(refuse):
    refuse(2, "got --checkpoint more than once", "overlay", "-c", "a", "--checkpoint", "b")


def test_two_checkpoints_of_a_histogram_lead_to_the_command_that_takes_two(refuse):
    refuse(2, "expected it once; atmviz compare takes two", "histogram", "-c", "atmnet_nano", "-c", "atmnet_tiny")


@pytest.mark.parametrize("words", LEAVES)
def test_choices_may_be_written_in_any_case(words):
    for parameter in LEAVES[words].params:
        for choice in parameter.type_descriptor.choices or ():
            assert parameter.get_runtime_param().coerce(str(choice).upper(), param=parameter, ctx=None) == choice


@pytest.mark.parametrize("words", [("intervene", "-c"), ("eval", "--checkpoint"), ("eval", "-c")])
def test_an_argument_written_as_an_option_says_so(words, refuse):
    refuse(2, f"no option {words[1]}, CHECKPOINT has none before it: see atmviz {words[0]} --help", *words, "a.pth")
