"""What a trained net can do: predictions, scores, interpretation, comparison; and what is wrong with pictures."""
