"""Judge a run: one way from its model to figures, tests and the report, whatever its stage."""

from pathlib import Path

from thinkrank._files import check_writable
from thinkrank.evaluate import write_comparisons, write_results
from thinkrank.evaluate.faithfulness import in_words
from thinkrank.recipes.base import EvaluationOptions, Judged, OpenRun
from thinkrank.recipes.baselines import SYSTEMS, chosen_settings
from thinkrank.recipes.comparing import per_sample
from thinkrank.recipes.faithful import FILE, measured
from thinkrank.recipes.reporting import write_run_report
from thinkrank.training import Progress, no_progress

WITHOUT_SEED = (
    "random",
    "displayed order",
    "R²ec, untrained",
    *(name for name, system in SYSTEMS.items() if not system.is_network),
)
"""Systems that no seed of the run had a part in."""


OWN = ("cascade", "R²ec and the crowd", "R²ec, no thought", "EGLR", "R2Rank", "R2Rank, no thought")
"""Names in tables of what a run trained and answers with, the first of them that is there."""


def evaluate(
    opened: OpenRun,
    options: EvaluationOptions | None = None,
    *,
    out: str | Path | None = None,
    progress: Progress = no_progress,
) -> Judged:
    """Ask a run's model and its baselines the same questions; write results.json, comparisons.json and report.html.

    The figures of every sample are kept too, for `thinkrank.recipes.comparing`. Where the model writes thoughts or
    reasons, faithfulness.json tells whether they are true and decide the answer.

    Args:
        opened: the run.
        options: what to compare, and on what; the defaults if None.
        out: folder for the files; the run's if None.
        progress: how to show the work.

    Raises:
        ThinkrankError: if the part holds nothing, an option belongs to another stage, or the folder cannot be written.
    """
    options = options or EvaluationOptions()
    recipe, settings, split = opened.recipe, opened.settings, opened.split
    folder = opened.run.folder if out is None else Path(out)
    check_writable(folder, otherwise="name another folder for results and report")
    questions = recipe.questions(settings, split, options)
    systems = recipe.systems(settings, split, opened.model, options, progress)
    evaluation = recipe.judge(systems, questions, options, progress)
    seeds = {system: (recipe.seed(settings),) for system in evaluation.systems if system not in WITHOUT_SEED}
    dataset = split.manifest()["dataset"]
    comparisons = [
        comparison
        for reference in recipe.references
        if reference in evaluation.systems
        for comparison in evaluation.comparisons(reference, dataset=dataset, split=options.part)
    ]
    rows = recipe.rows(evaluation, questions, split, options.part, seeds)
    told = recipe.verdict(settings, evaluation) if options.part == "test" else ""  # validation has chosen weights
    protocol = {**evaluation.protocol, "baseline settings": chosen_settings(systems)}
    write_comparisons(folder / "comparisons.json", comparisons, protocol)
    write_results(folder / "results.json", rows)
    chosen = settings.stage_class
    own = next((name for name in OWN if name in evaluation.systems), evaluation.systems[-1])
    own = own if chosen is None else chosen.title
    per_sample(split, questions, evaluation, own=own, part=options.part).save(folder)
    faithful = measured(opened, questions, options)  # asks anew: what was found so far is kept, whatever comes
    if faithful:
        write_results(folder / FILE, faithful)
    told = "\n".join(filter(None, (told, in_words(faithful))))
    judged = Judged(evaluation, questions, rows, comparisons, told, faithful)
    write_run_report(opened, judged, folder=folder)
    return judged


def report_training(opened: OpenRun, *, progress: Progress = no_progress) -> None:
    """Write what a run has to tell when its training has ended; a re-ranker is judged on its test part at once."""
    if opened.recipe.stage == "rerank" and len(opened.split.test):
        evaluate(opened, EvaluationOptions(samples=None, best_of=1), progress=progress)
    else:
        write_run_report(opened)
