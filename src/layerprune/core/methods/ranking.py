"""From scores to a keep list."""


def keep_highest(scores: list[float], count: int) -> list[int]:
    """Keep list with the `count` highest scores; between equals the earlier section stays."""
    ranked = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    return [int(index in ranked[:count]) for index in range(len(scores))]
