"""Who speaks: seat protocols and views, model, rule-based and human seats, and their prompts."""
