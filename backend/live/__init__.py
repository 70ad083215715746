"""Live steering: one worker process with the models, and the service that queues, watches and restarts it."""
