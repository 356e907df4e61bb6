"""A run of several processes: a master that writes the run folder, and workers that send the requests.

They speak over Locust's own connection between master and workers, in messages of their own:

    worker                                       master
    hello     who I am, which versions     ->
                                           <-    clock     what time is it there? (several, and again during a run)
                                           <-    plan      the plan, without any secret, and this worker's share
    prepared  or refused, in words         ->
                                           <-    begin     the run's name, its model
    ready                                  ->
                                           <-    go        all are ready: the instant from which schedules count
    parcel    records, gap counts, events  ->
                                           <-    ack       written as far as this parcel
    stopping  why I send no more           ->
                                           <-    stop      why all end; cancel: at once
    done      how many records there were  ->
                                           <-    ack

Keys and the values of extra headers are in none of them: each worker has its own from its own surroundings.
"""
