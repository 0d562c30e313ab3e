-- GET as many paths in turn as args[2] says, made of the pattern args[1] and a number from 0 on.
-- Each is formatted once. The connections share the counter, so each of them gets ever other ones.
dofile("benchmarks/lua/report.lua")

local requests, count, n = {}, 0, 0

function init(args)
   count = tonumber(args[2])
   for i = 0, count - 1 do
      requests[i] = wrk.format("GET", string.format(args[1], i))
   end
end

function request()
   n = (n + 1) % count
   return requests[n]
end
