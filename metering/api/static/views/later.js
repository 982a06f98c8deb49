// Views that come with the second script, by the name that the address has for them.

import { accounts } from "./accounts.js";
import { batch, hour } from "./batch.js";
import { budgets } from "./budgets.js";
import { freshness, quarantine, reports, sources } from "./operators.js";
import { trace } from "./trace.js";
import { who } from "./who.js";

export const VIEWS_LATER = { accounts, batch, budgets, freshness, hour, quarantine, reports, sources, trace, who };
