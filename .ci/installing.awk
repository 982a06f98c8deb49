# Progress of `uv sync`: each download with its size, then the rest. Whatever else uv says is trouble, and told whole.
function say(text) { print "  " text; fflush() }
/^Downloading / { size[$2] = substr($3, 2, length($3) - 2); all++; next }
/^ Downloaded / { say("downloaded " ++done " of " all ": " $2 ", " size[$2]); next }
/^Installed / { say("installed " $2 " " $3 "; compiling takes half a minute at most, once"); next }
/^Bytecode compiled / { say("compiled " $3 " files in " $NF); next }
/^ [-+~] |^(Using|Creating|Prepared|Resolved|Audited|Uninstalled) |^ +(Building|Built|Updating|Updated) / { next }
{ print; fflush() }
