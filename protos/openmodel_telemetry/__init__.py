"""What all programs of OpenModel tell of themselves: names of metrics, spans and attributes, and their ways out."""
