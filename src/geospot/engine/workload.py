"""What a command will ask of its engine at once, at most: what its memory follows from beside the model."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Batch:
    """Prompts that are asked about, or trained on, together; each with `members` answers."""

    prompts: int
    prompt_tokens: int  # of the longest
    answer_tokens: int  # of the longest
    members: int = 1
    greedy: bool = False  # or truncated: what is drawn from is a copy of the scores

    @property
    def rows(self) -> int:
        """Answers."""
        return self.prompts * self.members

    @property
    def tokens(self) -> int:
        """All of its tokens, each prompt once."""
        return self.prompts * self.prompt_tokens + self.rows * self.answer_tokens


@dataclass(frozen=True)
class Workload:
    """The batches that are sampled and trained on, one at a time, and the pictures of the whole run."""

    sampling: tuple[Batch, ...] = ()
    training: Batch | None = None
    pictures: int = 0  # different ones
    picture_tokens: int = 0  # of one
    keeps_sampler: bool = False  # while it trains
    saves: bool = False  # checkpoints

    @property
    def at_once(self) -> int:
        """Pictures of the largest batch."""
        of_training = self.training.prompts if self.training else 0
        return max([of_training, *(batch.prompts for batch in self.sampling)])
