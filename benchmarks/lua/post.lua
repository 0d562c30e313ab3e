-- POST a body of args[1] bytes; the same request every time, so wrk formats it once.
dofile("benchmarks/lua/report.lua")

function init(args)
   wrk.method = "POST"
   wrk.body = string.rep("x", tonumber(args[1]))
   wrk.headers["Content-Type"] = "application/octet-stream"
end
