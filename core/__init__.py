"""What every layer shares: settings, errors, ids, logging. Imports nothing of ours."""
