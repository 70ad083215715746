"""Every task of latent models: whoever looks one up by its name imports TASKS from here, where all have registered."""

from backend.latent import stories, tasks
from backend.latent.problems import TASKS

__all__ = ["TASKS", "stories", "tasks"]
