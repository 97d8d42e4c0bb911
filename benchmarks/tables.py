"""Writes the tables of README.md and docs/experiments.md from the JSON files under results/.

python -m benchmarks.tables
"""

import json
import re
from pathlib import Path
from typing import Any

from workbench.run.checkpoints import write_text_atomically

RESULTS = Path("benchmarks/results")
DEMO = RESULTS / "demo_clean_clone_2026_11_29.json"
"""The newest demo of a clean clone."""
PHASES = {"sft": "supervised (sft)", "ppo": "PPO", "dpo": "DPO"}
NUMBERS = {
    "gold reward": "gold_mean",
    "win rate against sft": "win_rate",
    "KL, nats/answer": "kl",
    "tokens": "length_mean",
    "EOS rate": "eos_rate",
    "distinct-2": "distinct_2",
    "unique answers": "unique_share",
}


def main() -> None:
    """Fill every marked place for which there is a result."""
    fill(Path("README.md"), "demo-numbers", readme_table(json.loads(DEMO.read_text(encoding="utf-8"))))
    seeds = json.loads((RESULTS / "demo_seeds.json").read_text(encoding="utf-8"))
    fill(Path("docs/experiments.md"), "seeds-table", seeds_table(seeds))
    controls = RESULTS / "negative_controls.json"
    if controls.is_file():
        fill(
            Path("docs/experiments.md"),
            "controls-table",
            controls_table(json.loads(controls.read_text(encoding="utf-8"))),
        )
    compared = RESULTS / "compare.json"
    if compared.is_file():
        table = compare_table(json.loads(compared.read_text(encoding="utf-8")))
        fill(Path("docs/experiments.md"), "compare-table", table)


def fill(page: Path, mark: str, text: str) -> None:
    """Put text between `<!-- mark -->` and `<!-- /mark -->`."""
    pattern = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", re.DOTALL)
    old = page.read_text(encoding="utf-8")
    assert pattern.search(old), f"{page} has no place for {mark}"
    write_text_atomically(page, pattern.sub(lambda match: match.group(1) + text + match.group(2), old))


def row(cells: list[str]) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(cells) + " |\n"


def shown(value: float | None, digits: int = 3) -> str:
    """A number, or a dash where it was not measured."""
    return "–" if value is None else f"{value:.{digits}f}"


def readme_table(summary: dict[str, Any]) -> str:
    """What a demo ends with."""
    phases = summary["phases"]
    names = ("gold reward", "win rate against sft", "KL, nats/answer", "EOS rate", "unique answers")
    text = row(["", *names]) + row(["---"] + ["---:"] * len(names))
    for phase, title in PHASES.items():
        text += row([title, *(shown(phases[phase].get(NUMBERS[name])) for name in names)])
    reward = phases["reward"]
    return (
        text + f"\nReward model: {shown(reward['accuracy'])} of held-out pairs ordered as labelled (noise ceiling "
        f"{shown(reward['noise_ceiling'])}), calibration error {shown(reward['ece'])}. Gold reward is at most 1, on "
        f"400 held-out prompts, seed {summary['seed']}; other seeds: [docs/experiments.md](docs/experiments.md).\n"
        f"The largest process took {summary['peak_rss_gib']:.2f} GiB.\n"
    )


def seeds_table(seeds: dict[str, Any]) -> str:
    """Every seed's numbers."""
    order = [str(seed) for seed in seeds["seeds"]]
    text = row(["", *(f"seed {seed}" for seed in order), "mean"]) + row(["---"] + ["---:"] * (len(order) + 1))
    for name, entry in seeds["table"].items():
        values = [shown(value) for value in entry["seeds"]]
        text += row([f"`{name}`", *values, shown(entry["mean"]) if "mean" in entry else ""])
    return text


def controls_table(controls: dict[str, Any]) -> str:
    """The controls beside the demo's own runs."""
    text = row(["", "gold reward", "score", "KL", "unique answers"]) + row(["---"] + ["---:"] * 4)
    titles = {
        "sft": "supervised (sft)",
        "ppo": "PPO",
        "flipped": "PPO, the reward's sign flipped",
        "overoptimised": "PPO, KL 0, reward model of 300 pairs 'longer is better'",
    }
    for name, title in titles.items():
        numbers = controls[name]
        text += row([title, *(shown(numbers[k]) for k in ("gold_mean", "reward_model_score", "kl", "unique_share"))])
    return (
        text + f"\nReward model: accuracy {shown(controls['reward']['accuracy'])}; on shuffled labels "
        f"{shown(controls['shuffled']['accuracy'])}. Scores are each run's own reward model's. One seed.\n"
    )


def compare_table(found: dict[str, Any]) -> str:
    """The methods of a comparison, best first, and what it says of itself."""
    names = (
        "gold",
        "95 %",
        "gain over sft",
        "p",
        "win rate",
        "at equal length",
        "KL",
        "tokens",
        "tax",
        "seconds",
        "GiB",
    )
    text = row(["", *names]) + row(["---"] + ["---:"] * len(names))
    for name, method in found["methods"].items():
        low, high = method["gold_ci"]
        p = method["gain_adjusted_p"]
        cells = [
            shown(method["gold"]),
            f"{low:.2f} to {high:.2f}",
            shown(method["gain"]),
            "<.001" if p < 0.001 else shown(p),
        ]
        cells += [shown(method[key]) for key in ("win_rate", "win_rate_length_controlled", "kl")]
        cells += [shown(method["length"], 1), shown(method["alignment_tax"]), shown(method["seconds"], 0)]
        text += row([name, *cells, shown(method["peak_gib"], 2)])
    same = sum(pair["verdict"] == "no difference shown" for pair in found["pairs"])
    text += f"\n{found['recommendation']} Of {len(found['pairs'])} pairs, {same} show no difference.\n"
    text += (
        f"Self-test: one method under two names differs in {found['aa_false_share']:.1%} of 200 repeats, answers dealt "
        f"at random differ in {found['shuffled_false_share']:.1%}.\n"
    )
    power = found["power"]
    if power is not None:
        needed = power["needed"]
        size = "no size tried" if needed is None else f"{needed['seeds']} seeds and {needed['prompts']} prompts"
        text += (
            f"A gain of {power['gain']} is found in {power['power']:.0%} of cases with {power['seeds']} seeds and "
            f"{power['prompts']} prompts; in 80 % with {size}.\n"
        )
    return text


if __name__ == "__main__":
    main()
