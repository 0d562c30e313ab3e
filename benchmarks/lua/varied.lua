-- Every request differs from every other: its path and six of its headers carry a counter.
-- What a server remembers from earlier requests (whole heads, header lines) is of no use here.
dofile("benchmarks/lua/report.lua")

local tail

function init(args)
   tail = "\r\nHost: " .. wrk.headers["Host"] .. "\r\nAccept: */*\r\nUser-Agent: client/"
end

local n = 0

function request()
   n = n + 1
   local id = string.format("%08x", n)
   return "GET /items/" .. id .. "?page=" .. n .. " HTTP/1.1" .. tail .. n ..
      "\r\nCookie: session=" .. id .. id .. id .. id ..
      "\r\nReferer: http://localhost/items/" .. n ..
      "\r\nAuthorization: Bearer " .. id .. id ..
      "\r\nX-Request-ID: " .. id ..
      "\r\nTraceparent: 00-" .. id .. id .. id .. id .. "-" .. id .. id .. "-01\r\n\r\n"
end
