"""Run folders and the volumes sampled from them: records, sidecars and cards."""
