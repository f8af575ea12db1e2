"""Tables beside volumes: text, cells, ids of persons, participants."""
