"""One execution: request, verdict, plan, supervision."""
