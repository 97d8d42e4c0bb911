"""Commands about finished reward runs: `python -m reward passport | score | explain | acquire | curve`."""
