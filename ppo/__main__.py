"""`python -m ppo CONFIG.yaml [a.b=value …] [--dry-run] [--resume] [--force]`; `method` in the file: ppo, dpo or slic.

--force (the same as model.force=true) runs PPO against a reward model whose passport is missing or fails.
"""

from workbench.run.command_line import run_main


def main(argv: list[str]) -> int:
    """Run the phase from its command line."""
    from ppo.config import ContrastiveConfig, PpoConfig, method_of
    from ppo.inputs import check_contrastive_inputs, check_inputs
    from workbench.run.command_line import parse_command_line

    prog, description = "python -m ppo", __doc__ or ""
    if method_of(argv) == "ppo":
        argv = ["model.force=true" if word == "--force" else word for word in argv]
        command = parse_command_line(PpoConfig, argv, prog=prog, description=description, check=check_inputs)
        if not command.dry_run:
            from ppo.train import train

            train(command.config, resume=command.resume)
        return 0
    contrastive = parse_command_line(
        ContrastiveConfig, argv, prog=prog, description=description, check=check_contrastive_inputs
    )
    if not contrastive.dry_run:
        from ppo.contrastive.train import train as train_contrastive

        train_contrastive(contrastive.config, resume=contrastive.resume)
    return 0


if __name__ == "__main__":
    run_main(main)
