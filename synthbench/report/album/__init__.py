"""The volumes of a scorecard that are at hand: chosen, compared and pictured for a page."""
