"""What is learnt: `images(...)`, `text(...)`, or any other `Task`."""

from dnas.tasks.images import images
from dnas.tasks.task import Feed, Task
from dnas.tasks.text import text

__all__ = ["Feed", "Task", "images", "text"]
