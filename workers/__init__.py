"""The processes behind the API: workers with their children, dispatch, rescue."""
