"""R²ec: think once about a user, then score the whole catalogue from the thought's last hidden state."""
