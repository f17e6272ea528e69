"""Input and output of a judge: prompt, verdicts, confidences, gate, judgments."""
