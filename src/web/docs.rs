//! `/openapi.json` and `/docs`: the API's description and its reference page, from this binary alone.
