"""What may happen between the epochs of a search: guards that stop it, and decisions that drop candidates. One paper a file."""

from dnas.rules.rule import Observed, Rule, Verdict

__all__ = ["Observed", "Rule", "Verdict"]
