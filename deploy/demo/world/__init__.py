"""The invented town of Tarnwick: questions with checkable facts, answerable in five styles."""
